"""What a run says: scores with their uncertainty, claims, diagnostics, costs, cards, pages."""
