"""What people read: numbers, tables, claims, figures, pages."""
