"""What both sides must agree on: from DICOM to a case, from a case to a trained model, from a model to numbers."""
