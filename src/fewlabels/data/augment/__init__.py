"""Views: augmentations of whole batches on the device."""
