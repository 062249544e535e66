-- include: base reading
-- Return one record, or {}. ARGV: id, fields.

if redis.call('EXISTS', P .. 'i:' .. ARGV[1]) == 0 then
  return {}
end
return record(ARGV[1], cmsgpack.unpack(ARGV[2]))
