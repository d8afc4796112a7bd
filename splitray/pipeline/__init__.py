"""The main job: its run folder, its stages, the dry run and the summary."""
