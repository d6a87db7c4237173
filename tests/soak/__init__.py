"""The long run: traffic, deaths and a bad network for as long as one likes."""
