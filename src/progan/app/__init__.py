"""The app: one page of ES modules (`page/`), with two ways to make a picture, the device itself or a server."""
