SELECT calsync_version();
