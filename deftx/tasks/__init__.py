"""The kinds of tasks: a folder for each, and the tables that list them."""
