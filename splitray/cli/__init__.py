"""Arguments, exit codes and what a terminal shows. Nothing imports this package."""
