"""What the detector promises, measured: false raises, delays, peers, speed."""
