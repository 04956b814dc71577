"""A run on disk: its folder, journal, sample files and run.json; resumed, loaded and summarised."""
