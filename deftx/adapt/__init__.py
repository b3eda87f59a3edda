"""From a text to a model: `deftx adapt` and what it leads to, for people who have a language and no
cluster."""
