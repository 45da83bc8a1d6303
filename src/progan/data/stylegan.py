"""The StyleGAN family's zip or folder with dataset.json: labels when reading, and a writer."""
