"""What `compare` shows: cells are read, ranked in a leaderboard, drawn, and put on one page."""
