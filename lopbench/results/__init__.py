"""What runs leave behind and what is made of it: records, scores, statistics, leaderboards, figures."""
