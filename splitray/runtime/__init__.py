"""What the package needs of its surroundings: other libraries' private names, extras, plugins, silence, progress."""
