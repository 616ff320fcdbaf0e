// Puts the functions into a fresh context that scripts of other products expect to be there.
(function (context, offset, country, dayFirst) {
  const text = (value) => (value === undefined || value === null ? "" : String(value));
  const pad = (number, length = 2) => String(number).padStart(length, "0");
  const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
  // Numbers beyond are milliseconds: as seconds they would be after the year 2286.
  const SECONDS = 1e10;

  const minutes = (zone) => {
    if (zone === "Z" || zone === "z") return 0;
    const [, sign, hours, rest] = /^([+-])(\d{2}):?(\d{2})$/.exec(zone) ?? [];
    return sign === undefined ? NaN : (sign === "-" ? -1 : 1) * (hours * 60 + Number(rest));
  };

  // Milliseconds of a date of the calendar; not a number for the 31st of February.
  const moment = (year, month, day, clock, zone) => {
    const [hour, minute, second, fraction] = clock;
    const at = Date.UTC(year, month - 1, day, hour, minute, second, fraction);
    const read = new Date(at);
    const real =
      read.getUTCMonth() === month - 1 && read.getUTCDate() === day && read.getUTCHours() === hour;
    return real && minute < 60 && second < 60 ? at - zone * 60_000 : NaN;
  };

  const clock = (said) => {
    if (!said.trim()) return [0, 0, 0, 0];
    const parts = /^\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3})\d*)?)?\s*([ap]m)?\s*$/i.exec(said);
    if (!parts) return [NaN, 0, 0, 0];
    const [, hours, minute, second = 0, fraction = "", half] = parts;
    let hour = Number(hours);
    if (half) hour = (hour % 12) + (half.toLowerCase() === "pm" ? 12 : 0);
    return [hour, Number(minute), Number(second), Number(fraction.padEnd(3, "0"))];
  };

  const calendar = (said) => {
    let parts = /^(\d{4})-(\d{1,2})-(\d{1,2})(.*)$/s.exec(said);
    if (parts) return [parts[1], parts[2], parts[3], parts[4].replace(/^[Tt]/, " ")].map(known);
    parts = /^(\d{1,2})[/.](\d{1,2})[/.](\d{4})(.*)$/s.exec(said);
    if (parts) {
      const [day, month] = dayFirst ? [parts[1], parts[2]] : [parts[2], parts[1]];
      return [parts[3], month, day, parts[4]].map(known);
    }
    parts = /^(\d{1,2})[- ]([a-z]{3})[a-z]*[- ](\d{4})(.*)$/is.exec(said);
    if (!parts) return undefined;
    return [parts[3], MONTHS.indexOf(parts[2].toLowerCase()) + 1, parts[1], parts[4]].map(known);
  };
  const known = (part, at) => (at < 3 ? Number(part) : part);

  const read = (said) => {
    const found = calendar(said);
    if (!found) return NaN;
    const [year, month, day, rest] = found;
    const zoned = /^(.*?)\s*(Z|[+-]\d{2}:?\d{2})$/is.exec(rest);
    const zone = zoned ? minutes(zoned[2]) : offset;
    return moment(year, month, day, clock(zoned ? zoned[1] : rest), zone);
  };

  const millis = (value) => {
    if (value instanceof Date) return value.getTime();
    if (typeof value === "number") return Math.abs(value) > SECONDS ? value : value * 1000;
    const said = text(value).trim();
    return /^-?\d+(\.\d+)?$/.test(said) ? millis(Number(said)) : read(said);
  };

  const written = (at, zone) => {
    const local = new Date(at + zone * 60_000);
    const date = [pad(local.getUTCFullYear(), 4), pad(local.getUTCMonth() + 1), pad(local.getUTCDate())];
    const time = [local.getUTCHours(), local.getUTCMinutes(), local.getUTCSeconds()].map((n) => pad(n));
    const size = Math.abs(zone);
    const name = `${zone < 0 ? "-" : "+"}${pad(Math.floor(size / 60))}:${pad(size % 60)}`;
    return `${date.join("-")}T${time.join(":")}${name}`;
  };

  const helpers = {
    // Seconds since 1970 of a date in any form; null for what is none.
    epoch(value) {
      const at = millis(value);
      return Number.isFinite(at) ? Math.floor(at / 1000) : null;
    },
    // A date and a time of day as ISO 8601 with the offset; null for what is none.
    datetime(date, time, zone) {
      const away = zone === undefined ? offset : minutes(text(zone));
      const found = date instanceof Date ? undefined : calendar(text(date).trim());
      const at = found
        ? moment(found[0], found[1], found[2], clock(text(time) || found[3]), away)
        : millis(date);
      return Number.isFinite(at) && Number.isFinite(away) ? written(at, away) : null;
    },
    uppercase: (value) => text(value).toUpperCase(),
    lowercase: (value) => text(value).toLowerCase(),
    trim: (value) => text(value).trim(),
    // Digits with a leading plus; as they are where no country is known.
    formatPhone(phone, code = country) {
      const said = text(phone).trim();
      const digits = said.replace(/\D/g, "");
      if (!digits) return "";
      if (said.startsWith("+")) return `+${digits}`;
      if (digits.startsWith("00")) return `+${digits.slice(2)}`;
      if (code === undefined || code === null) return digits;
      const own = text(code).replace(/\D/g, "");
      const national = digits.replace(/^0+/, "");
      // National numbers have at most ten digits nearly everywhere; longer ones name their country.
      return digits.startsWith(own) && digits.length > 10 ? `+${digits}` : `+${own}${national}`;
    },
    // The value at a path such as `lines[0].sku`.
    get(value, path, fallback) {
      for (const [, name, index] of text(path).matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
        if (value === undefined || value === null) return fallback;
        value = value[name ?? Number(index)];
      }
      return value === undefined ? fallback : value;
    },
    lookup: context.lookup,
    // The name that a found entry has, or the entry where it is a text itself.
    lookupName(table, key, fallback) {
      const found = context.lookup(table, key, fallback);
      return typeof found === "object" && found !== null ? found.name ?? fallback : found;
    },
    reverseLookup: context.reverseLookup,
  };
  if (context.http) helpers.http = context.http;
  for (const [name, value] of Object.entries(helpers)) {
    Object.defineProperty(globalThis, name, {
      value, writable: true, enumerable: false, configurable: true,
    });
  }
});
