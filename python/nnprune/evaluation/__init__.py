"""What pruning did to accuracy, robustness and calibration, on data that the user gives."""
