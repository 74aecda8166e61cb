"""What answers are worth: metrics, intervals, columns, and the files that hold them."""
