"""What a whole collection holds: near duplicates, outliers, clusters, a map; and pages that show them."""
