"""Images and captions in WebDataset tars, in Parquet files, and at URLs that the user names."""
