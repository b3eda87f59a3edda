"""From a text to a model: `deftx adapt`, for people who have a language and no cluster."""
