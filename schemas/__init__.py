"""Wire formats: the only code that turns untrusted bytes into Python values and back."""
