"""A third party's plug-ins for Millrace."""
