"""The forms of the law: a registry, what every form is, and dual numbers that give exact slopes."""
