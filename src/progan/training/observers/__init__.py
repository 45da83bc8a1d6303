"""Who watches a training: files, health, console, TensorBoard, profiler."""
