"""What runs leave behind, and how it is found and read again."""
