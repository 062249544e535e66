-- include: base
-- Return those of the ids that have ended or are suspended. ARGV: ids.

local reply = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  local status = redis.call('HGET', P .. 'i:' .. id, 'status')
  if status and status ~= 'running' then
    reply[#reply + 1] = id
  end
end
return reply
