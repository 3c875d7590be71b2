"""A judge and what it says of pairs: presentations scored, orders averaged, probabilities calibrated, scores stored."""
