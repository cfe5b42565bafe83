"""The page that `penjing ui` serves: it reads the records, and changes nothing but templates and decisions."""
