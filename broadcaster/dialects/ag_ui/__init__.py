"""The dialect ``ag-ui``: AG-UI 1.0."""
