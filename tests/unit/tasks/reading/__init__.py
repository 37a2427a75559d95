"""Sources as people have them."""
