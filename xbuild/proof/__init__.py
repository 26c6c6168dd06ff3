"""What holds builds against each other and explains them."""
