"""The pages. A fragment of a page is the same view's answer to htmx (`HX-Request: true`)."""
