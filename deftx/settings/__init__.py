"""The settings of each stage, one file a stage, free of torch so that the workflow can read them."""
