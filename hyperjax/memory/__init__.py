"""What programs take of memory, what there is, and the answer where it lacks; data sheets."""
