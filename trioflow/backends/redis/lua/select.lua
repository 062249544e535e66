-- include: base reading
-- List or count instances, newest first, a part of them at a time.
-- ARGV: filter, fields or '' for a number, how many at most, look at how many, seq before which
-- ('+inf' or '(seq'), or '' and the last id of the page before.
-- Returns 'gone' if there is no such id, or seq before which to go on or '', then the number or the records.

local where = read_filter(ARGV[1])
local fields = ARGV[2] ~= '' and cmsgpack.unpack(ARGV[2])
local limit, size, before = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
if before == '' then
  local seq = redis.call('HGET', P .. 'i:' .. ARGV[6], 'seq')
  if not seq then
    return 'gone'
  end
  before = '(' .. seq
end

local places = {}
if where.parent and where.parent ~= '' then
  places[1] = 'children:' .. where.parent
  where.needs_row = where.needs_row or where.statuses
else
  for _, status in ipairs(STATUSES) do
    if not where.statuses or where.statuses[status] then
      places[#places + 1] = 'status:' .. status
    end
  end
end

local number = 0
if not fields and not where.needs_row and not where.id_prefix and places[1] then
  for _, place in ipairs(places) do
    number = number + redis.call('ZCARD', P .. place)
  end
  return { '', number }
end

local seen = {}
for _, place in ipairs(places) do
  local found = redis.call(
    'ZREVRANGEBYSCORE', P .. place, before, '-inf', 'WITHSCORES', 'LIMIT', 0, size
  )
  for n = 1, #found, 2 do
    seen[#seen + 1] = { id = found[n], seq = tonumber(found[n + 1]) }
  end
end
table.sort(seen, function(a, b) return a.seq > b.seq end)

local reply = { '' }
for n = 1, math.min(size, #seen) do
  if means(where, seen[n].id) then
    number = number + 1
    if fields then
      reply[#reply + 1] = record(seen[n].id, fields)
    end
  end
  if number == limit then
    return fields and reply or { '', number }
  end
end
-- No place had more than it was asked for, so what was seen goes down without a gap to here.
if #seen >= size then
  reply[1] = exact(seen[size].seq)
end
return fields and reply or { reply[1], number }
