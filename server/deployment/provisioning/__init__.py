"""Provisioning of a consortium: its certificate authority, its members' certificates, and the kit of each member."""
