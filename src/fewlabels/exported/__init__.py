"""A trained network for use elsewhere: as ONNX, as a program of torch.export, as plain weights with a model card."""
