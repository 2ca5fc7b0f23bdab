"""Images that posts name by address: fetched from public hosts only, bounded in time, bytes and number."""
