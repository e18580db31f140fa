"""What each word of the command line does; floor 4, beside `cli`."""
