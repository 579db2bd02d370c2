"""Promotion under load: models change while records flow, one of them corrupt; then every record is accounted for."""
