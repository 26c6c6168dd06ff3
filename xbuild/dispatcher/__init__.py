"""The dispatcher: the program that the kernel runs for every target ELF file, and the table it decides by."""
