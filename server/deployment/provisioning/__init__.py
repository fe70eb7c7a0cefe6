"""Who belongs to a consortium: its authority, certificates, and the kit each member is handed."""
