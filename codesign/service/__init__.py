"""What users feel: traffic, batching, fleet size."""
