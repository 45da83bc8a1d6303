"""The authors' multi-resolution TFRecords as a data source, read without TensorFlow."""
