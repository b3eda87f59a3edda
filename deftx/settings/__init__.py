"""The settings of the stages, free of torch so that the workflow can read them."""
