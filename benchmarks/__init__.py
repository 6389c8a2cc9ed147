"""What the loop costs, as ratios to loops written by hand; `python -m benchmarks` measures it all."""
