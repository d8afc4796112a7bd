"""The study as a job: another programme over the same tree, with stages, run folder and costs as the main job's."""
