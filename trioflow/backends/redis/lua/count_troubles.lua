-- include: base activities reading troubles
-- Count what is in each kind of trouble. ARGV: the kinds, packed; seconds; how many at most.

local reply = {}
for at, kind in ipairs(cmsgpack.unpack(ARGV[1])) do
  if kind == 'suspended' then
    reply[at] = math.min(redis.call('ZCARD', P .. 'status:suspended'), tonumber(ARGV[3]))
  else
    reply[at] = #candidates({ trouble = kind, trouble_after = tonumber(ARGV[2]) }, tonumber(ARGV[3]))
  end
end
return reply
