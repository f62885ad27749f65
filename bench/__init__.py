"""What the product costs, side by side with a floor in C and with what others run: ``make bench``."""
