"""What music is: keys, notes, pieces, and the token languages that write them. Pure Python and numpy."""
