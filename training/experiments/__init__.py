"""The study c1: what a VLM still knows of a picture at each point of its depth, and how the seed measured it."""
