"""Contact sheets: the chips of a batch beside their labels."""

from training.contact_sheets.drawing import contact_sheet

__all__ = ["contact_sheet"]
