"""From a text to a model: what `deftx adapt` and its neighbours do."""
