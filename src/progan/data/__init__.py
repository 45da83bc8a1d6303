"""Images: from whatever people have to one array per resolution, in an order that the seed decides."""
